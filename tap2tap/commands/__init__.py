"""What a person runs beside the tunnel: each command is a module that is loaded when it is asked for."""
