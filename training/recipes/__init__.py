"""Built-in recipes: one YAML file each, named as ``--recipe`` names them.

- ``tiny.yaml``: draws its own pictures and pretrains small parts; minutes on two CPU cores;
- ``laco_aimv2_qwen2.5_0.5b.yaml``: the paper's recipe, AIMv2 and Qwen2.5-0.5B;
- ``laco_siglip_qwen2.5_0.5b.yaml``: the same with SigLIP;
- ``laco_internvit_qwen2.5_0.5b.yaml``: the same with InternViT.
"""
