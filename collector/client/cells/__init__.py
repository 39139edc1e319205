"""What a reader of several cells needs: each fact once, from the cell that has it first."""
