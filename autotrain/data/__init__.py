"""The input path: source, seeded stream, geometry, loader, transfer."""
