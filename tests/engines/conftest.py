from .fixtures import (  # noqa: F401 - fixtures
    answerer,
    answering_model,
    bundle,
    bundle_folder,
    engine_cache,
    lean_answerer,
    make_picture,
    needs_optimum,
    one_graph,
    picture_file,
    rewritten,
    rtx,
    tiled_model,
)
from .stand_ins import load_stand_in, stand_in_device, store_engines  # noqa: F401
