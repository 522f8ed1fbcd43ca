"""The Hugging Face Hub: runs pushed with a model card, pulled and checked, and files by address.

`push` sends a copy of a run that has none of the user's features, pictures, names or paths, `pull`
makes a run folder of what was pushed, and `fetch` gives the path of what `hf://user/name` names.
"""

from pipeline.hub.addresses import Fetched, fetch
from pipeline.hub.exchange import prepare, pull, push

__all__ = ["Fetched", "fetch", "prepare", "pull", "push"]
