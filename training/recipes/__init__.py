"""Built-in recipes: one YAML file each, named as `--recipe` names them."""
