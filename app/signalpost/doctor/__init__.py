"""The doctor: looks at everything that a delivery needs, and says what to do where it is amiss."""
