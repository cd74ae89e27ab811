"""What runs in the visitor's browser besides Gradio's own."""

from __future__ import annotations

# They lie below the fold where the window is narrow.
RESULTS_INTO_SIGHT = """() => {
    const results = document.querySelector('#results'), top = results.getBoundingClientRect().top;
    if (top > window.innerHeight / 2) results.scrollIntoView({behavior: 'smooth'});
}"""

# Gradio 6.31 asks the system's dialog for "image/*", which leaves out the endings that a system does not know as such.
OFFER_EVERY_PHOTO = """() => {
    const kinds = 'image/*,.heic,.heif,.avif,.webp,.tif,.tiff';
    const offer = () => {
        for (const box of document.querySelectorAll('#photo input[type=file]')) {
            if (box.accept !== kinds) box.accept = kinds;
        }
    };
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
