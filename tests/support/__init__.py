"""What tests stand on: a PostgreSQL, a server process, a scripted upstream, a guard on sockets."""
