"""What goes in and what is kept: clips, decoding, the feature cache, datasets, simulated scenes.

Import from the packages (`data.video`, `data.cache`, `data.interchange`, `data.datasets`,
`data.simulate`) and the modules here (`data.clips`, `data.manifests`, ...). Nothing here imports
`backbones` or `pipeline`.
"""
