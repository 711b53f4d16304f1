"""``laco-engine report``: what bundles answer, side by side, on one page that a person can read and sign.

In reading order:

- :mod:`.making`: from bundles, pictures and questions to a page;
- :mod:`.subjects`: what a report is about: each bundle at each of its depths;
- :mod:`.asking`: every subject asked every question, in turn;
- :mod:`.scores`: the answers against the truth and against the reference;
- :mod:`.measuring`: times, floors, memory, energy, size, drift of each subject;
- :mod:`.first_token`: where the time to the first token goes, beside its floors;
- :mod:`.drift`: how far each block drifts from PyTorch's;
- :mod:`.attribution_file`: what a drift came from, as ``laco-engine diff --attribute`` found it;
- :mod:`.gaps`: what was not measured, in words;
- :mod:`.provenance`: what the figures are of: hashes, versions, machine, command;
- :mod:`.thumbnails`: the pictures, small enough for the page;
- :mod:`.document`: everything as one JSON document;
- :mod:`.page`: the document as HTML, by the files of ``template/``;
- :mod:`.number_words`: how the page spells numbers.
"""
