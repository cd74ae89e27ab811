"""What runs in the visitor's browser besides Gradio's own."""

from __future__ import annotations

# They lie below the fold where the window is narrow.
RESULTS_INTO_SIGHT = """() => {
    const results = document.querySelector('#results'), top = results.getBoundingClientRect().top;
    if (top > window.innerHeight / 2) results.scrollIntoView({behavior: 'smooth'});
}"""

# Gradio 6.31 asks the system's dialog for "image/*", and takes no file whose kind the system does not know: HEIC on
# Windows and Linux, for one. So the dialog offers the endings too, and such files, chosen or dropped, get their kind
# from them.
OFFER_EVERY_PHOTO = """() => {
    const kinds = {heic: 'heic', heif: 'heif', avif: 'avif', webp: 'webp', tif: 'tiff', tiff: 'tiff'};
    const accept = ['image/*', ...Object.keys(kinds).map(ending => '.' + ending)].join();
    const offer = () => {
        for (const box of document.querySelectorAll('#photo input[type=file]')) {
            if (box.accept !== accept) box.accept = accept;
        }
    };
    const named = files => {  // the same files with their kinds, or nothing where all have one
        if (![...files].some(file => !file.type)) return null;
        const all = new DataTransfer();
        for (const file of files) {
            const kind = kinds[file.name.split('.').pop().toLowerCase()];
            all.items.add(file.type || !kind ? file : new File([file], file.name, {type: 'image/' + kind}));
        }
        return all;
    };
    document.addEventListener('change', event => {
        const all = event.target.matches?.('#photo input[type=file]') && named(event.target.files);
        if (all) event.target.files = all.files;
    }, true);
    document.addEventListener('drop', event => {
        const all = event.isTrusted && event.target.closest?.('#photo') && named(event.dataTransfer.files);
        if (!all) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        event.target.dispatchEvent(new DragEvent('drop', {dataTransfer: all, bubbles: true, cancelable: true}));
    }, true);
    offer();
    new MutationObserver(offer).observe(document.body, {childList: true, subtree: true});
}"""

# Gradio 6.31 leaves pictures and the 3D view without a name, and sends the Tab key into the 3D view first. Each gets
# its block's label, which is in the visitor's language already.
NAME_PICTURES = """() => {
    const name = () => {
        for (const picture of document.querySelectorAll('.gradio-container img:not([alt]), img[alt=""], canvas')) {
            const label = picture.closest('.block')?.querySelector('[data-testid="block-label"], .label');
            if (!label) continue;
            if (picture.tagName === 'IMG') {
                picture.alt = label.innerText.trim();
            } else {
                picture.setAttribute('role', 'img');
                picture.setAttribute('aria-label', label.innerText.trim());
                picture.tabIndex = 0;
            }
        }
    };
    name();
    new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
}"""
