"""A cluster's secrets: made, handed out, sealed on their way."""
