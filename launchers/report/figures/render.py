"""Figures as PDF files, and the JavaScript that draws them in a page. Both come from vl-convert, without a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hyperformer.files import atomic_write, user_cache
from hyperformer.settings.extras import version
from launchers.report.figures.charts import Figure

INSTALL = "figures need altair and vl-convert: pip install 'hyperformer[report]'"
_WIDTH = 460
_CACHE = user_cache()
_END = "\n// complete\n"


def can_draw() -> bool:
    """Whether the extra `report` is installed."""
    from importlib.util import find_spec

    return find_spec("altair") is not None and find_spec("vl_convert") is not None


def write_pdfs(folder: Path, figures: Sequence[Figure]) -> list[Path]:
    """Write <name>.pdf of each figure; returns their paths. PDFs of an earlier report are removed."""
    paths = [folder / f"{re.sub(r'[^A-Za-z0-9+_.-]', '-', figure.name)}.pdf" for figure in figures]
    if figures:
        import vl_convert

        folder.mkdir(parents=True, exist_ok=True)
        for path, figure in zip(paths, figures, strict=True):
            with atomic_write(path, "wb") as stream:
                config = {**figure.spec.get("config", {}), "legend": {"columns": 2}}
                stream.write(vl_convert.vegalite_to_pdf({**figure.spec, "width": _WIDTH, "config": config}))
    for old in set(folder.glob("*.pdf")) - set(paths):
        with suppress(OSError):
            old.unlink()
    return paths


def javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one module that sets `window.vegaEmbed`.

    Made once per version (2 s) and kept in the user's cache, where that can be written.
    """
    import vl_convert

    kept = _CACHE / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeError):
        code = kept.read_text(encoding="utf-8")
        if code.endswith(_END):
            return code
    # The page is one file: a string of the code must not end its script element.
    code = vl_convert.javascript_bundle().replace("</script", "<\\/script") + _END  # type: ignore[call-arg]  # no argument is needed
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as stream:
            stream.write(code)
    return code
