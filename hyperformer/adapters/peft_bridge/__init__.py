"""Methods that the package peft makes, in our T5; and folders of peft."""
