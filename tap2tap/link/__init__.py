"""The link process: reads the key file, makes the handshakes, and tells the workers which sessions to use.

    life      the process from its beginning to its end
    driver    carries out what the link (tap2tap.protocols.secure.link) decides
    workers   what the two workers are told, and what they say
    path      what the memory says of the path to the peer
    sampler   what the workers did, and when
    slots     which slots of the memory the sessions have
    messages  what the supervisor and the link process say to each other

The supervisor imports messages alone. The rest is loaded by who forks link processes (tap2tap.supervisor.fork_server).
"""
