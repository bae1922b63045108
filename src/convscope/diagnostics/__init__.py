"""What several families of methods say of one network together: compare, check, health."""
