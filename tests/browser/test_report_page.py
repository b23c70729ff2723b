"The report in a real browser: every control moved, every picture compared with the direct call."
import io, re
import matplotlib, numpy as np, pytest
from PIL import Image
from eva_cam.html import write_report
from made import NASTY, made, no_mistakes, one_class, one_image
from window import browser, tab

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')
READ = "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return [c.height, c.width, Array.from(d)]; }"

@pytest.fixture(scope='module')
def interp(): return made()

@pytest.fixture(scope='module')
def file(interp, tmp_path_factory): return write_report(interp, tmp_path_factory.mktemp('report') / 'report.html')

@pytest.fixture
def page(tab, file): return opened(tab, file)

def opened(tab, file):
    tab.goto(file.as_uri())
    tab.wait_for_selector('body[data-ready]')
    return tab

def canvas(handle):
    h, w, px = handle.evaluate(READ)
    return np.array(px, np.uint8).reshape(h, w, 4)[..., :3]

def cards(page): return page.query_selector_all('#gallery .card')
def come_to_gallery(page):
    "Pictures are drawn when they come near the window."
    page.evaluate("document.querySelector('#gallery .card').scrollIntoView({behavior: 'instant', block: 'center'})")
    for _ in range(100):
        if page.evaluate("[...document.querySelectorAll('#gallery .card')].slice(0, 8).every(c => c.drawn)"): return
        page.wait_for_timeout(50)
    raise AssertionError('the pictures were not drawn within five seconds')

def shown_rows(page): return page.evaluate("[...document.querySelectorAll('#gallery .card')].map(c => P.rows[c.k].row)")
def count(page): return int(page.inner_text("#count").split()[0])

def step(cmap, entries=1):
    "How far apart two colours of a table are at most, when their places in it differ by so many entries."
    table = matplotlib.colormaps[cmap](np.arange(256), bytes=True)[:, :3].astype(int)
    return np.abs(table[entries:] - table[:-entries]).max()

def close(a, b, levels): return np.abs(a.astype(int) - b.astype(int)).max() <= levels

@pytest.mark.parametrize('which,value', [('predicted', 'pred'), ('true', 'true'), ('difference', 'diff')])
@pytest.mark.parametrize('cmap', ['inferno', 'viridis', 'turbo', 'jet'])
def test_image_and_heat_equal_the_direct_call(page, interp, which, value, cmap):
    page.select_option('#which', value); page.select_option('#cmap', cmap)
    come_to_gallery(page)
    for i, card in enumerate(cards(page)[:8]):
        image, heat = card.query_selector_all('canvas')
        np.testing.assert_array_equal(canvas(image), interp.ds.x[interp.rows[i]])
        direct = interp.overlays(interp.rows[[i]], which, 1, cmap)[0]
        assert close(canvas(heat), direct, step('RdBu_r' if value == 'diff' else cmap)), 'a rounded map may take the neighbouring entry of its table, no further one'

@pytest.mark.parametrize('alpha', [0, .25, .5, 1])
def test_blend_slider_blends_as_overlay_does(page, interp, alpha):
    page.fill('#blend', str(alpha))
    assert page.inner_text('#blendout') == f'{alpha:.2f}'
    stack = page.query_selector('#gallery .card .stack')
    come_to_gallery(page)
    shot = np.asarray(Image.open(io.BytesIO(stack.screenshot())).convert('RGB'))
    at = ((np.arange(32) + .5) * shot.shape[0] / 32).astype(int)
    inner = slice(2, -2) # round corners hide the outermost pixels
    direct = interp.overlays(interp.rows[:1], alpha=alpha)[0]
    assert close(shot[at][:, at][inner, inner], direct[inner, inner], 0 if alpha == 0 else 6)

def test_blend_moves_no_canvas(page):
    come_to_gallery(page)
    before = [canvas(c) for c in cards(page)[0].query_selector_all('canvas')]
    page.fill('#blend', '0.9')
    for a, c in zip(before, cards(page)[0].query_selector_all('canvas')): np.testing.assert_array_equal(a, canvas(c))
    took = page.evaluate("() => { const t = performance.now(); for (let i = 0; i < 20; i++) { $('#blend').value = i / 20; $('#blend').dispatchEvent(new Event('input')); document.body.offsetHeight; } return (performance.now() - t) / 20; }")
    assert took < 50

def test_numbers_equal_direct_calls(page, interp):
    text = page.inner_text('main')
    assert f'{100 * interp.accuracy:.2f} %' in text and f'{100 * interp.ece():.1f} %' in text
    cells = page.evaluate("[...document.querySelectorAll('.confusion tbody tr')].map(r => [...r.querySelectorAll('td')].map(c => +c.innerText || 0))")
    np.testing.assert_array_equal(cells, interp.confusion())
    said = page.evaluate("P.rows.slice(0, P.gallery.length).map(r => [r.row, r.pp, r.pt, r.loss])")
    table = interp.table()
    np.testing.assert_allclose(np.array(said), table[['row', 'p_predicted', 'p_true', 'loss']].to_numpy(float))

def test_every_cell_of_the_matrix_filters(page, interp):
    m = interp.confusion()
    for b in page.query_selector_all('.confusion button'):
        what = b.evaluate('b => JSON.parse(b.dataset.show)')
        b.click()
        assert count(page) == m[what['true'], what['pred']] == int(b.inner_text())
        assert b.get_attribute('aria-pressed') == 'true'
        assert set(shown_rows(page)) <= set(interp.pick(True, what['true'], what['pred']).tolist())
    page.click('#reset')
    assert count(page) == interp.wrong.sum() and page.query_selector('[aria-pressed=true]') is None

def test_lists_and_orders(page, interp):
    for value, by in (('loss', 'loss'), ('sure', 'sure'), ('unsure', 'unsure'), ('row', 'dataset')):
        page.select_option('#order', value)
        assert shown_rows(page) == interp.pick(by=by, n=96).tolist()
    y = int(interp.y[interp.rows[0]])
    page.select_option('#true', str(y))
    assert shown_rows(page) == interp.pick(true=y, n=96).tolist()
    p = int(interp.pred[interp.pick(true=y)[0]])
    page.select_option('#pred', str(p))
    assert shown_rows(page) == interp.pick(true=y, pred=p, n=96).tolist()
    page.reload(); page.wait_for_selector('body[data-ready]')
    assert shown_rows(page) == interp.pick(true=y, pred=p, n=96).tolist(), 'the address keeps the choice'
    page.click('#reset')
    while page.is_visible('#more'): page.click('#more')
    assert shown_rows(page) == interp.pick().tolist()

def test_another_order_keeps_what_was_picked(page):
    page.query_selector(".words .show[data-show*=only]").click()
    picked = shown_rows(page)
    page.select_option('#order', 'loss')
    assert sorted(shown_rows(page)) == picked and 'picked above' in page.inner_text('#count')

def test_a_class_outside_the_gallery_shows_none_of_its_images(page):
    "As where a cell's mistakes were cut from a gallery of a thousand."
    t = page.evaluate("() => { const t = P.rows[P.gallery[0]].t; P.gallery = P.gallery.filter(k => P.rows[k].t !== t); $(`#true option[value='${t}']`).remove(); set({ true: t }); return t; }")
    assert count(page) == 0 and page.input_value('#true') == str(t)
    page.click('#reset')
    assert count(page) == page.evaluate('P.gallery.length') > 0

def test_an_address_that_asks_for_nonsense_shows_all(tab, file, interp):
    tab.goto(file.as_uri() + '#order=x&true=999&pred=none'); tab.wait_for_selector('body[data-ready]')
    assert count(tab) == interp.wrong.sum() and tab.input_value('#order') == 'row'

def test_sentences_groups_and_strips_show_their_images(page, interp):
    for b in page.query_selector_all('.words .show, .group button[data-show]'):
        what = b.evaluate('b => JSON.parse(b.dataset.show)')
        b.click()
        if 'only' in what: want = page.evaluate('ks => ks.map(k => P.rows[k].row)', what['only'])
        elif 'group' in what: want = page.evaluate('g => P.rows.slice(0, P.gallery.length).filter(r => r.g === g).map(r => r.row)', what['group'])
        else: want = interp.pick(true=what.get('true'), pred=what.get('pred')).tolist()
        while page.is_visible('#more'): page.click('#more')
        assert sorted(shown_rows(page)) == sorted(want) and count(page) == len(want) > 0
    assert page.query_selector_all('.strip .card canvas')

def test_large_view_by_keyboard(page, interp):
    page.focus('#gallery .card button')
    page.keyboard.press('ArrowRight')
    assert page.evaluate("document.activeElement.closest('.card').k") == 1
    page.keyboard.press('ArrowLeft'); page.keyboard.press('Enter')
    assert page.is_visible('#view')
    for k in (0, 1, 2):
        row = interp.rows[k]
        np.testing.assert_array_equal(canvas(page.query_selector('#view .px')), interp.ds.x[row])
        assert close(canvas(page.query_selector('#view .heat')), interp.overlays([row], alpha=1)[0], step('inferno'))
        assert f'Image {interp.ds.idxs[row]}' in page.inner_text('#vnote') and page.inner_text('#vpos').startswith(f'{k + 1} of')
        bars = page.inner_text('#vbars').replace('\xa0', ' ')
        assert f'{100 * interp.conf[row]:.1f} %' in bars and f'logit {interp.logits[row].max():.2f}' in bars
        page.keyboard.press('ArrowRight')
    page.click('#prev')
    page.keyboard.press('Escape')
    assert not page.is_visible('#view') and page.evaluate("document.activeElement.closest('.card').k") == 0

def test_names_from_data_are_shown_not_run(page):
    assert page.evaluate('typeof boom') == 'undefined'
    assert NASTY[0] in page.inner_text('.confusion') and NASTY[1] in page.inner_text('.classes')

def test_every_picture_has_words(page):
    assert page.evaluate("[...document.querySelectorAll('[role=img]')].filter(e => !e.getAttribute('aria-label')).length") == 0
    assert page.evaluate("[...document.querySelectorAll('button, select, input')].filter(e => !(e.innerText || e.getAttribute('aria-label') || e.closest('label'))).length") == 0
    assert 'taken for' in page.get_attribute('#gallery .stack', 'aria-label')

CONTRAST = """() => {
  const rgb = s => { const v = s.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; n = walk.nextNode();) {
    const e = n.parentElement, r = e.getBoundingClientRect();
    if (!n.textContent.trim() || r.width < 2 || r.height < 2 || ['SCRIPT', 'STYLE', 'OPTION'].includes(e.tagName) || e.closest('svg, .sr, .skip')) continue;
    let ground = [255, 255, 255, 1]; const up = [];
    for (let p = e; p; p = p.parentElement) up.push(rgb(getComputedStyle(p).backgroundColor));
    for (const c of up.reverse()) ground = over(c, ground);
    const fore = over(rgb(getComputedStyle(e).color), ground), [a, b] = [lum(fore), lum(ground)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className} ${n.textContent.trim().slice(0, 30)}`);
  }
  return bad;
}"""

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_contrast_is_AA(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector(f'html[data-theme={scheme}]')
    assert page.evaluate(CONTRAST) == []
    page.click('#theme')
    assert page.evaluate('document.documentElement.dataset.theme') != scheme
    page.wait_for_timeout(50)
    assert page.evaluate(CONTRAST) == []

def test_prints(page):
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('.card')].every(c => c.drawn)")
    pdf = page.pdf(print_background=True)
    assert pdf[:4] == b'%PDF' and len(pdf) > 50_000
    page.emulate_media(media='print')
    assert not page.is_visible('#bar') and page.is_visible('#gallery')

def test_a_dark_screen_prints_on_white(page):
    page.emulate_media(color_scheme='dark'); page.wait_for_selector('html[data-theme=dark]')
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') != 'rgb(255, 255, 255)'
    page.emulate_media(color_scheme='dark', media='print')
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'

def test_a_damaged_picture_is_said(tab, file, tmp_path):
    (tmp_path / 'spoilt.html').write_text(re.sub(r'(data:image/webp;base64,)[A-Za-z0-9+/]{40}', r'\g<1>' + 'A' * 40, file.read_text(encoding='utf-8')), encoding='utf-8')
    tab.goto((tmp_path / 'spoilt.html').as_uri())
    tab.wait_for_function("document.querySelector('#how_many').textContent.includes('cannot be read')", timeout=5000)

def test_narrow_screen_has_no_sideways_scroll(page):
    page.set_viewport_size(dict(width=390, height=800))
    assert page.evaluate('document.documentElement.scrollWidth') <= 390

def test_without_scripts_the_numbers_are_there(browser, file, interp):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert f'{100 * interp.accuracy:.2f} %' in page.inner_text('.tiles') and page.is_visible('.confusion') and 'switched off' in page.inner_text('noscript')
    context.close()

@pytest.mark.parametrize('make', [no_mistakes, one_image, one_class])
def test_odd_data(tab, tmp_path, make):
    interp = make()
    page = opened(tab, write_report(interp, tmp_path / 'odd.html'))
    assert len(cards(page)) == len(interp.rows)
    if not interp.wrong.any(): assert 'No mistakes' in page.inner_text('#h-mist')
    page.click('#gallery .card button')
    assert page.is_visible('#view')

def test_200_photos_stay_under_5_megabytes(tab, tmp_path):
    interp = made(230, 224, grain=12)
    assert interp.wrong.sum() >= 200
    file = write_report(interp, tmp_path / 'photos.html')
    assert file.stat().st_size < 5e6 * interp.wrong.sum() / 200
    page = opened(tab, file)
    come_to_gallery(page)
    image, heat = cards(page)[0].query_selector_all('canvas')
    assert np.abs(canvas(image).astype(int) - interp.ds.x[interp.rows[0]]).mean() < 25
    assert close(canvas(heat), interp.overlays(interp.rows[:1], alpha=1)[0], step('inferno', 2))
