"""The stages from clips to messages, in the order of the data.

- `extraction`: clips through a frozen backbone into a feature cache.
- `dataset`: what training and evaluation read: caches, labels, splits.
- `agents`: senders and receivers, alone and of many seeds at once.
- `game`: what senders and receivers are trained to do together, and how it is scored.
- `training`: agents of many seeds at once, into a run folder.
- `runs`: run folders, read and written.
- `metrics`: pure functions of messages and properties.
- `evaluation`: accuracies next to baselines, interventions, probes, comparisons of runs.
- `message`: a new clip to its message, and what its symbols mean.
- `report`: a run as a page or as tables.
- `experiments`: recipes and the demo, from clips to a page.
- `config`, `console`, `cli`: the settings, what people see, the command.
- `doctor`: checks of a machine.
- `cluster`: many machines, as Ray knows them.
"""

import os

# An Apple GPU leaves to the CPU what it has no kernel for; torch looks when it is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
