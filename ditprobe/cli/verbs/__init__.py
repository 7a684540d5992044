"""The verbs of the command line, one module each; every verb mirrors a function of the library.

A verb is a module in this folder and nothing else: :mod:`ditprobe.cli.app` finds it. ``eval_tapvid.py`` holds the
function ``eval_tapvid``, which is ``ditprobe eval-tapvid``; ``GROUP``, its heading in ``ditprobe --help``; and
``EXAMPLES``, the end of its own ``--help``.
"""
