"""TODO"""

from data.simulate.scenes.collision import COLLISION
from data.simulate.scenes.fall import FALL
from data.simulate.scenes.ramp import RAMP
from data.simulate.scenes.spring import SPRING
from data.simulate.scenes.world import Coil, Prism, Puck, Scene, World

__all__ = ["COLLISION", "FALL", "RAMP", "SPRING", "Coil", "Prism", "Puck", "Scene", "World"]
