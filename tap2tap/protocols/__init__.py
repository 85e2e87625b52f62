"""What goes over the wire: one module or package for each protocol that a cable can speak."""
