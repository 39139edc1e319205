"""Who may do what: key files, authorized keys, rights per topic, and the gate in front of our sockets."""
