"""The slot loop on a GPU: admission, layers and exits run on the device as captured graphs."""
