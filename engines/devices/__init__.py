"""What machine this is: its CUDA device, its board where it is a Jetson, its clocks, power and memory.

What is known of devices that are not here stands in :mod:`.profiles`.
"""
