"""The data room: layout on disk, image files, splits, augmentation, datasets, loaders and synthetic captures.

Nothing is imported here, so that looking at a folder does not load torch.

    layout          which samples a folder holds, and everything that is wrong with it
    checking        the same, with every image decoded
    images          pixels from files and back
    cameras_file    `input/cameras.json`
    splits          training and validation materials
    augmentation    windows, flips and quarter-turns that keep the truth
    dataset         samples as tensors
    batch           what a loader yields
    loading         loaders whose order depends on seed and epoch alone
    prepare         a batch on the device, as the network and the losses want it
    synthesis       captures rendered from material folders
    opening         all of it for a recipe: `open_dataset`
"""
