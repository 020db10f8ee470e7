"""What the tests stand on: real servers, a real platform in processes of its own, and waiting for facts."""
