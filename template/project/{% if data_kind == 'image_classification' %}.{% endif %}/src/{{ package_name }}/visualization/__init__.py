"""Pictures of batches, runs and mistakes."""
