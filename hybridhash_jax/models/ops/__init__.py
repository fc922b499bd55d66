"""Operations in formulations that are fast where they run."""
