"""The memory of GPU and host: checked before the first step, and what follows when it is too little."""
