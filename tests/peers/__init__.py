"""Other people's programs that ours must get along with, run beside ours in the tests."""
