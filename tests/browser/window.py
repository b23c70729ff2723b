"A real browser. Where there is none, the tests say so and are skipped."
import shutil
import pytest

@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install playwright')
    path = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if path is None: pytest.skip('no Chromium on this machine: apt-get install chromium')
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=['--no-sandbox'])
        yield b
        b.close()

@pytest.fixture
def tab(browser):
    "A page that fails its test on any error in its console and on any request but for files."
    context = browser.new_context(viewport=dict(width=1280, height=900), accept_downloads=True)
    page, bad = context.new_page(), []
    page.on('console', lambda m: bad.append(m.text) if m.type in ('error', 'warning') and 'willReadFrequently' not in m.text else None) # that one is about the tests' own reading
    page.on('pageerror', lambda e: bad.append(str(e)))
    page.on('request', lambda r: bad.append(r.url) if not r.url.startswith(('file:', 'data:', 'blob:')) else None)
    yield page
    context.close()
    assert bad == []
