"""HTTP only: parse the request, one call of the service, render the answer."""
