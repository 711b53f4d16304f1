"""What machine this is: its CUDA device, its board where it is a Jetson, its clocks, power and memory.

What any Linux machine says of itself (memory, CPUs, cgroups) is read by :mod:`laco_export.machine`. In reading order:

- :mod:`.cuda`: the CUDA device that is here;
- :mod:`.jetson`: the board, by its own files and tools;
- :mod:`.jetpack`: what each JetPack brings, and what is to be installed beside it;
- :mod:`.state`: device, clocks and power mode, as a measurement states them;
- :mod:`.profiles`: facts about devices that may not be here;
- :mod:`.host_peaks`: what this CPU can do at best, measured;
- :mod:`.power`: a board's power sensors, and the energy of a piece of work;
- :mod:`.watched`: a temperature or a power that is to stay below a limit.
"""
