"""What is kept: the database, its tables and migrations, and encryption at rest."""
