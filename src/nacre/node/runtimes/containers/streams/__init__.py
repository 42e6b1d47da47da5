"""Byte streams of containers: exec, attach, logs, files, figures. What nacre.protocol.streams asks for is answered here."""
