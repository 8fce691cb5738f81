"""JSON documents as clients send them, and the engine's commands that they stand for."""
