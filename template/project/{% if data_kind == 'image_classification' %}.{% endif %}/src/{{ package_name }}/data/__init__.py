"""The dataset and its loaders."""
