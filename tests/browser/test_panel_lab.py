"The panel in JupyterLab: every control moved by mouse or keyboard, the picture compared with the direct call."
import json, os, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import numpy as np, pytest
from made import made
from window import browser

pytest.importorskip('jupyterlab', reason='jupyterlab is not installed: pip install jupyterlab')
HERE = Path(__file__).resolve().parent
CODE = 'from made import made\nfrom eva_cam.panel import panel\np = panel(made())\np'
READ = """async img => { try { await img.decode(); } catch { return [0, 0, []]; } // replaced meanwhile: read again
  const c = document.createElement('canvas'); c.width = img.naturalWidth; c.height = img.naturalHeight;
  const x = c.getContext('2d'); x.drawImage(img, 0, 0); return [c.height, c.width, Array.from(x.getImageData(0, 0, c.width, c.height).data)]; }"""

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "Address of a JupyterLab with one notebook in it."
    root = tmp_path_factory.mktemp('lab')
    cell = dict(cell_type='code', id='panel', metadata={}, source=CODE, outputs=[], execution_count=None)
    kernel = dict(display_name='python3', language='python', name='python3')
    (root / 'panel.ipynb').write_text(json.dumps(dict(cells=[cell], metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)))
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(HERE), os.environ.get('PYTHONPATH', '')]), 'JUPYTER_CONFIG_DIR': str(root / '.config'), 'JUPYTER_DATA_DIR': str(root / '.data')}
    args = ['--no-browser', '--allow-root', f'--ServerApp.port={port}', '--ServerApp.ip=127.0.0.1', '--IdentityProvider.token=', f'--ServerApp.root_dir={root}', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.news_url=None']
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *args], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(120):
        try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api'); break
        except OSError: time.sleep(.5)
    yield f'http://127.0.0.1:{port}/lab/tree/panel.ipynb', root
    server.terminate(); server.wait(20)

@pytest.fixture(scope='module')
def page(browser, lab):
    context, bad = browser.new_context(viewport=dict(width=1400, height=1000)), []
    page = context.new_page()
    page.on('pageerror', lambda e: bad.append(str(e)))
    page.on('console', lambda m: bad.append(m.text) if m.type == 'error' else None)
    page.goto(lab[0])
    page.wait_for_selector('.jp-Notebook .cm-content', timeout=90_000)
    page.click('.jp-Notebook .cm-content')
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=90_000)
    page.keyboard.press('Shift+Enter')
    page.wait_for_selector('.widget-image', timeout=120_000)
    yield page
    context.close()
    assert bad == []

@pytest.fixture(scope='module')
def interp(): return made()

def picture(page):
    h, w, px = page.query_selector('.widget-image').evaluate(READ)
    return np.array(px, np.uint8).reshape(h, w, 4)[::10, ::10, :3]

def becomes(page, direct):
    "Wait until the picture is that of the direct call."
    for _ in range(100):
        if (got := picture(page)).shape == direct.shape and (got == direct).all(): return
        page.wait_for_timeout(50)
    np.testing.assert_array_equal(picture(page), direct)

def slider(page, name): return page.query_selector(f'.widget-inline-hbox:has(label:text-is("{name}")) .noUi-handle')
def choose(page, name, what): page.query_selector(f'.widget-dropdown:has(label:text-is("{name}")) select').select_option(label=what)
def key(page, name, *keys):
    slider(page, name).focus()
    for k in keys: page.keyboard.press(k)

def test_blend_has_exact_ends(page, interp):
    key(page, 'Blend', 'Home')
    becomes(page, interp.ds.x[interp.rows[0]])
    key(page, 'Blend', 'End')
    becomes(page, interp.overlays(interp.rows[:1], alpha=1)[0])
    key(page, 'Blend', *['ArrowLeft'] * 3)
    becomes(page, interp.overlays(interp.rows[:1], alpha=.97)[0])

def test_blend_by_mouse(page, interp):
    box = page.query_selector('.widget-inline-hbox:has(label:text-is("Blend")) .noUi-base').bounding_box()
    page.mouse.click(box['x'] + box['width'] / 4, box['y'] + box['height'] / 2)
    page.wait_for_timeout(300)
    alpha = float(page.inner_text('.widget-inline-hbox:has(label:text-is("Blend")) .widget-readout'))
    assert .1 < alpha < .4
    becomes(page, interp.overlays(interp.rows[:1], alpha=alpha)[0])
    key(page, 'Blend', 'End')

def test_images_by_key_and_button(page, interp):
    key(page, 'Image', 'ArrowRight', 'ArrowRight')
    becomes(page, interp.overlays(interp.rows[[2]], alpha=1)[0])
    page.click('button:text-is("← Previous")')
    becomes(page, interp.overlays(interp.rows[[1]], alpha=1)[0])
    page.click('button:text-is("Next →")'); page.click('button:text-is("Next →")')
    becomes(page, interp.overlays(interp.rows[[3]], alpha=1)[0])
    assert f'image {interp.ds.idxs[interp.rows[3]]}' in page.inner_text('.jp-OutputArea')
    key(page, 'Image', 'Home')

def test_map_colours_layer_and_method(page, interp):
    row = interp.rows[:1]
    for which in ('true', 'difference', 'predicted'):
        choose(page, 'Map of', which)
        becomes(page, interp.overlays(row, which, 1)[0])
    choose(page, 'Colours', 'jet')
    becomes(page, interp.overlays(row, 'predicted', 1, 'jet')[0])
    from eva_cam.gradcam import overlay
    choose(page, 'Layer', 'early')
    becomes(page, overlay(interp.ds.x[row], interp.explain(row, 'early').cam[:, 0], 1, 'jet')[0])
    choose(page, 'Method', 'layercam')
    becomes(page, overlay(interp.ds.x[row], interp.explain(row, 'early', 'layercam').cam[:, 0], 1, 'jet')[0])
    choose(page, 'Layer', 'late'); choose(page, 'Method', 'gradcam'); choose(page, 'Colours', 'inferno')
    becomes(page, interp.overlays(row, alpha=1)[0])

def test_classes_and_order(page, interp):
    choose(page, 'Order', 'loss')
    becomes(page, interp.overlays(interp.pick(by='loss', n=1), alpha=1)[0])
    top = interp.most_confused(1)
    choose(page, 'True', top.true[0]); choose(page, 'Predicted', top.predicted[0])
    becomes(page, interp.overlays(interp.pick(True, top.true[0], top.predicted[0], 'loss', 1), alpha=1)[0])
    choose(page, 'True', 'any'); choose(page, 'Predicted', 'any'); choose(page, 'Order', 'dataset')
    becomes(page, interp.overlays(interp.rows[:1], alpha=1)[0])

def test_bars_and_names_are_text(page, interp):
    text = page.inner_text('.jp-OutputArea')
    assert f'{100 * interp.conf[interp.rows[0]]:.1f} %' in text and f'logit {interp.logits[interp.rows[0]].max():.2f}' in text
    assert page.query_selector('.jp-OutputArea script') is None

def test_save_button_writes_what_is_seen(page, interp, lab):
    if os.environ.get('EVA_CAM_SCREENSHOTS'): page.screenshot(path=Path(os.environ['EVA_CAM_SCREENSHOTS'])/'panel.png')
    page.click('button:text-is("Save view")')
    page.wait_for_selector('text=Saved as')
    from PIL import Image
    saved, = lab[1].glob('view_*.png')
    np.testing.assert_array_equal(np.asarray(Image.open(saved))[::10, ::10], interp.overlays(interp.rows[:1], alpha=1)[0])
