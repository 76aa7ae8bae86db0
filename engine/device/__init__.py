"""GPU slot loop: admission, layers and exits run on the device as captured graphs."""
