"""The shapes of requests and answers. Requests are strict and closed; answers are only described."""
