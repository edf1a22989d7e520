"""The LightningModule, losses and schedules: one training for every network."""
