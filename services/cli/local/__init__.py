"""Everything on one machine: embedded broker, embedded Redis, and the services as child processes."""
