"""The page as its readers meet it: a farmer's phone and an office screen, in both languages, in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from cloud_ingest.tests.page_fixture import NOW, PAGES, Script, bench_state, page_service

BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE = ViewportSize(width=360, height=740)
DESKTOP = ViewportSize(width=1280, height=800)
READERS = [pytest.param(lang, size, id=f"{lang}-{size['width']}") for lang in ("vi", "en") for size in (PHONE, DESKTOP)]
SEEN_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"  # the page asks at once when it is seen again
AA_CONTRAST = 4.5

Opened = Callable[..., Page]


# One browser for this module: the sync API holds an event loop in this thread, which later tests must not meet.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed (apt-get install chromium)")
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=BROWSER_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def opened(browser: Browser, script: Script) -> Iterator[Opened]:
    """Opens the page; at the end nothing may have gone wrong in it that the test did not bring about itself."""
    faults: list[str] = []
    with page_service(script) as address:

        def opener(query: str = "", size: ViewportSize = DESKTOP) -> Page:
            page = context.new_page()
            page.set_viewport_size(size)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(said(message)) if message.type == "error" else None)
            page.goto(address + query)
            return page

        context = browser.new_context()
        context.set_default_timeout(10_000)
        yield opener
        context.close()
    # Chromium notes a refused question as an error; scripted refusals are all below /api/.
    assert [fault for fault in faults if "/api/" not in fault] == []


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    """A page whose modules are looked at one by one; nothing on it is changed."""
    with page_service(Script()) as address:
        page = browser.new_page()
        page.goto(address)
        yield page
        page.close()


@pytest.fixture(scope="module")
def texts(modules: Page) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = modules.evaluate("import('./texts.js').then((module) => module.TEXTS)")
    return found


def said(message: ConsoleMessage) -> str:
    return f"{message.text} {message.location['url']}"


def figure(value: float, lang: str, decimals: int = 2) -> str:
    text = f"{value:.{decimals}f}"
    return text.replace(".", ",") if lang == "vi" else text


def latest(script: Script, station: str, parameter: str) -> float:
    entries = next(each for each in script.overview["stations"] if each["id"] == station)["latest"]
    return float(next(entry["value"] for entry in entries if entry["parameter"] == parameter))


# --- in both languages, at both widths ----------------------------------------------------------------------


@pytest.mark.parametrize(("lang", "size"), READERS)
def test_every_station_shows_the_salinity_the_api_gave(
    opened: Opened, script: Script, lang: str, size: ViewportSize
) -> None:
    page = opened(f"?lang={lang}", size)
    expected = [figure(latest(script, each["id"], "salinity"), lang) for each in script.overview["stations"]]
    expect(page.locator(".salinity-value strong")).to_have_text(expected)


@pytest.mark.parametrize(("lang", "size"), READERS)
def test_nothing_reaches_over_the_edge_of_the_screen(
    opened: Opened, script: Script, lang: str, size: ViewportSize
) -> None:
    script.bench = bench_state()
    page = opened(f"?lang={lang}", size)
    expect(page.locator("#chart .line").first).to_be_visible()
    expect(page.locator(".alert").first).to_be_visible()
    expect(page.locator(".bench-sms")).to_be_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") == size["width"]


@pytest.mark.parametrize(
    ("lang", "words"),
    [("vi", ["Dòng sông lúc này", "Đạt kiểm tra", "Nghi ngờ", "Mất liên lạc", "Ngưỡng của trạm", "15:04"]),
     ("en", ["The river now", "Passed checks", "Suspect", "No contact", "Station thresholds", "15:04"])],
)  # fmt: skip
def test_the_reader_is_told_in_words(opened: Opened, lang: str, words: list[str]) -> None:
    page = opened(f"?lang={lang}")
    expect(page.locator("html")).to_have_attribute("lang", lang)
    for word in words:
        expect(page.locator("main")).to_contain_text(word)


@pytest.mark.parametrize(
    ("lang", "values"),
    [("vi", ["28,4 °C", "1,25 m", "32,6 °C", "67 %", "Đông, 4,2 m/s, giật 7,9", "1009 hPa"]),
     ("en", ["28.4 °C", "1.25 m", "32.6 °C", "67 %", "E, 4.2 m/s, gusts 7.9", "1009 hPa"])],
)  # fmt: skip
def test_a_card_shows_water_and_weather(opened: Opened, lang: str, values: list[str]) -> None:
    page = opened(f"?lang={lang}")
    expect(page.locator(".card").first.locator("dd")).to_have_text(values)


def test_both_languages_have_the_same_texts(texts: dict[str, dict[str, str]]) -> None:
    assert texts["vi"].keys() == texts["en"].keys()
    assert all(text.strip() for words in texts.values() for text in words.values())


def test_placeholders_agree_between_the_languages(texts: dict[str, dict[str, str]]) -> None:
    names = {
        lang: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in words.items()}
        for lang, words in texts.items()
    }
    assert names["vi"] == names["en"]


def test_every_text_the_page_asks_for_exists(texts: dict[str, dict[str, str]]) -> None:
    sources = "".join(file.read_text(encoding="utf-8") for file in PAGES.iterdir() if file.suffix in {".js", ".html"})
    asked = set(re.findall(r'\bt\("(\w+)"|data-(?:text|label)="(\w+)"', sources))
    assert {one or other for one, other in asked} <= texts["vi"].keys()


def test_the_chosen_language_is_kept(opened: Opened) -> None:
    page = opened()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Stations", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Stations", exact=True)).to_be_visible()


# --- the chart ----------------------------------------------------------------------------------------------


def test_threshold_lines_are_named_by_crop_with_both_levels(opened: Opened) -> None:
    page = opened()
    expect(page.locator(".threshold-label")).to_have_text(
        ["Lúa: báo từ 1,0, hết khi còn 0,8", "Xoài: báo từ 3,0, hết khi còn 2,7"]
    )


def test_missing_hours_stay_open_and_doubtful_values_are_marked(opened: Opened) -> None:
    page = opened()
    expect(page.locator("#chart .line")).to_have_count(2)
    expect(page.locator("#chart .mark-suspect")).to_have_count(2)
    expect(page.locator("#chart .mark-fail")).to_have_count(1)


def test_the_chart_says_in_words_what_it_shows(opened: Opened) -> None:
    page = opened("?lang=en")
    expect(page.get_by_role("img", name="Salinity chart of Xuan Hoa sluice. Latest 15:05 Sat 28/02")).to_be_visible()


def test_a_finger_on_the_chart_reads_that_moment(opened: Opened) -> None:
    page = opened("?lang=en", PHONE)
    chart = page.locator("#chart svg.chart")
    expect(page.locator("#readout")).to_contain_text("15:05 Sat 28/02")
    box = chart.bounding_box()
    assert box is not None
    chart.hover(position={"x": 46 + (box["width"] - 58) / 2, "y": 100}, force=True)
    expect(page.locator("#readout")).to_contain_text("Fri 27/02")


def test_arrow_keys_read_single_points(opened: Opened) -> None:
    page = opened("?lang=en")
    cursor = page.get_by_role("slider", name="Read single points")
    cursor.focus()
    page.keyboard.press("ArrowLeft")
    expect(cursor).to_have_attribute("aria-valuetext", re.compile("^15:00 Sat 28/02 · .* g/L · Passed checks$"))


def test_the_chart_opens_with_the_station_nearest_to_its_threshold(opened: Opened, script: Script) -> None:
    script.overview["stations"][1]["latest"][0]["value"] = 0.995
    page = opened("?lang=en")
    expect(page.get_by_label("Station", exact=True)).to_have_value("hoa-binh")


def test_another_station_is_chosen_on_its_card(opened: Opened) -> None:
    page = opened("?lang=en", PHONE)
    page.locator(".card", has_text="Hoa Binh").get_by_role("button", name="Show chart").click()
    expect(page.get_by_role("img", name="Salinity chart of Hoa Binh")).to_be_in_viewport()
    expect(page.get_by_label("Station", exact=True)).to_have_value("hoa-binh")


def test_a_station_without_salinity_has_an_empty_chart_that_says_so(opened: Opened, script: Script) -> None:
    page = opened("?lang=en")
    page.get_by_role("button", name="6 h", exact=True).click()
    page.get_by_label("Station", exact=True).select_option("my-tho")
    script.overview["stations"][3]["id"] = "renamed"
    page.get_by_role("button", name="24 h").click()
    expect(page.locator("#readout")).to_have_text("No salinity was measured in the last 24 hours.")


# --- the service goes and comes -----------------------------------------------------------------------------


def test_a_silent_service_is_said_and_the_last_values_stay(opened: Opened, script: Script) -> None:
    page = opened("?lang=en")
    shown = figure(latest(script, "vam-kenh", "salinity"), "en")
    expect(page.locator(".salinity-value strong").first).to_have_text(shown)
    script.away = True
    page.evaluate(SEEN_AGAIN)
    expect(page.get_by_text(re.compile(r"The service is not answering.*the last received, \d+ second"))).to_be_visible()
    expect(page.locator(".thresholds .now").first).to_have_text("Not known")
    expect(page.locator(".salinity-value strong").first).to_have_text(shown)
    script.away = False
    page.evaluate(SEEN_AGAIN)
    expect(page.get_by_text("Receiving data")).to_be_visible()
    expect(page.locator("#away")).to_be_hidden()


def test_no_figure_is_shown_before_the_first_answer(opened: Opened, script: Script) -> None:
    script.away = True
    page = opened()
    expect(page.get_by_text("chưa nhận được số liệu nào")).to_be_visible()
    assert page.locator(".card, .river, #chart svg, .alert").count() == 0


def test_a_station_out_of_contact_says_since_when(opened: Opened) -> None:
    page = opened()
    card = page.locator(".card", has_text="Mỹ Tho")
    expect(card).to_contain_text("Mất liên lạc. Số liệu cuối lúc 10:05, 5 giờ trước.")


def test_a_value_that_failed_its_checks_colours_nothing(opened: Opened, script: Script) -> None:
    script.overview["stations"][0]["latest"][0] |= {"flag": 4}
    page = opened("?lang=en")
    expect(page.locator(".river-label", has_text="Vam Kenh")).to_have_class(re.compile("step-none"))
    expect(page.locator(".card").first).to_contain_text("Failed checks")


def test_a_missing_value_is_a_dash_and_never_a_number(opened: Opened, script: Script) -> None:
    script.overview["stations"][0]["latest"][0] |= {"flag": 9, "value": None}
    page = opened("?lang=en")
    expect(page.locator(".salinity-value strong").first).to_have_text("–")
    expect(page.locator(".card").first).to_contain_text("Missing")


def test_names_from_outside_are_text_not_markup(opened: Opened, script: Script) -> None:
    script.overview["stations"][0]["name"]["vi"] = "<b id='injected'>Vàm</b>"
    page = opened()
    expect(page.locator(".card h3").first).to_have_text("<b id='injected'>Vàm</b>")
    assert page.locator("#injected").count() == 0


# --- alerts -------------------------------------------------------------------------------------------------


def test_an_alert_shows_its_text_its_receiver_and_what_became_of_it(opened: Opened, script: Script) -> None:
    page = opened()
    entries = page.locator(".alert")
    expect(entries).to_have_count(3)
    expect(entries.first).to_contain_text(script.alerts[0]["text"]["vi"])
    expect(entries.first.locator("summary")).to_have_text("SMS đến +84******123 · đang chờ gửi · đã thử 3 lần")
    expect(entries.nth(2).locator("summary")).to_have_text("SMS đến +84******123 · đã gửi lúc 21:51 27/02")
    entries.first.locator("summary").click()
    expect(entries.first.get_by_text(script.alerts[0]["deliveries"][0]["text"])).to_be_visible()


def test_an_alert_a_gateway_told_by_itself_says_so(opened: Opened, script: Script) -> None:
    told = script.alerts[1]
    script.alerts[1] = told | {"via": "gw-mytho"}
    told["deliveries"][0]["via"] = "gw-mytho"
    told["deliveries"].append(told["deliveries"][0] | {"person": "siren", "channel": "siren", "address_masked": ""})
    entry = opened().locator(".alert").nth(1)
    expect(entry.locator(".alert-via")).to_contain_text("gw-mytho")
    expect(entry.locator("summary").first).to_contain_text("do trạm thu gw-mytho gửi")
    expect(entry.locator("summary").nth(1)).to_contain_text("SIREN · đã gửi")


def test_a_station_above_its_threshold_is_said_first(opened: Opened, script: Script) -> None:
    page = opened()
    expect(page.locator(".alert-strip")).to_have_text(
        "▲Cống Xuân Hòa: vượt ngưỡng của trạm từ 13:05. " + script.alerts[0]["text"]["vi"]
    )


def test_a_new_alert_appears_without_reloading(opened: Opened, script: Script) -> None:
    script.alerts, later = [], script.alerts
    page = opened()
    expect(page.get_by_text("Chưa có tin báo nào.")).to_be_visible()
    script.alerts = later
    page.evaluate(SEEN_AGAIN)
    expect(page.locator(".alert")).to_have_count(3)


# --- for every reader ---------------------------------------------------------------------------------------


def test_the_keyboard_reaches_the_content_and_the_language(opened: Opened) -> None:
    page = opened()
    expect(page.locator(".card").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Đến nội dung chính")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="English")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_focus_and_opened_lists_outlive_a_redraw(opened: Opened, script: Script) -> None:
    page = opened("?lang=en")
    card = page.locator(".card").first
    card.locator("summary").click()
    card.get_by_role("button", name="Show chart").focus()
    script.overview = {**script.overview, "now": NOW + 60}
    script.overview["stations"][0]["latest"][0]["value"] = 9.876
    page.evaluate(SEEN_AGAIN)
    expect(card.locator(".salinity-value strong")).to_have_text("9.88")
    expect(card.get_by_role("button", name="Show chart")).to_be_focused()
    expect(card.locator("table")).to_be_visible()


def test_colours_of_the_scale_can_be_read(opened: Opened) -> None:
    page = opened()
    expect(page.locator(".scale-steps li")).to_have_count(7)
    pairs = page.locator(".scale-steps li").evaluate_all(
        "(items) => items.map((item) => [getComputedStyle(item).backgroundColor, getComputedStyle(item).color])"
    )
    assert [pair for pair in pairs if contrast(*pair) < AA_CONTRAST] == []


def test_the_scale_darkens_step_by_step_so_that_its_order_needs_no_hue(opened: Opened) -> None:
    page = opened()
    expect(page.locator(".scale-steps li")).to_have_count(7)
    colours = page.locator(".scale-steps li").evaluate_all(
        "(items) => items.map((i) => getComputedStyle(i).backgroundColor)"
    )
    lightness = [luminance(colour) for colour in colours]
    assert lightness == sorted(lightness, reverse=True)


def luminance(colour: str) -> float:
    """Relative luminance of a CSS rgb() colour, WCAG 2.2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(ground: str, ink: str) -> float:
    darker, lighter = sorted((luminance(ground), luminance(ink)))
    return (lighter + 0.05) / (darker + 0.05)


# --- the pure parts, in the browser that runs them ----------------------------------------------------------


def test_branches_side_by_side_are_rivers_of_their_own(modules: Page) -> None:
    lines = modules.evaluate("""async () => {
        const { riverLines } = await import("./river_lines.js");
        const at = (river, river_km, latitude, longitude) => ({ river, river_km, latitude, longitude, latest: [] });
        const stations = [at("Tiền", 42, 10.3366, 106.4103), at("Cửa Tiểu", 2, 10.274, 106.737),
            at("Hàm Luông", 45, 10.2223, 106.3489)];
        return riverLines(stations).map((line) => line.rivers);
    }""")
    assert lines == [["Cửa Tiểu", "Tiền"], ["Hàm Luông"]]


def test_a_series_thinned_by_least_and_greatest_has_no_gaps(modules: Page) -> None:
    lines = modules.evaluate("""async () => {
        const { lines } = await import("./chart_data.js");
        const times = Array.from({ length: 200 }, (_, index) => Math.floor(index / 2) * 360 + (index % 2) * 60);
        return lines(times.map((time) => ({ time, value: 1, flag: 1 }))).length;
    }""")
    assert lines == 1


def test_the_clock_between_answers_keeps_the_pace_of_the_service(modules: Page) -> None:
    now = modules.evaluate("""async () => {
        const { ServiceClock } = await import("./service.js");
        const clock = new ServiceClock();
        clock.observe(1000, 0);
        clock.observe(1300, 5000);
        return clock.now(6000);
    }""")
    assert now == 1360


# --- the bench's panel below the page -----------------------------------------------------------------------


@pytest.fixture
def bench(opened: Opened, script: Script) -> Page:
    script.bench = bench_state()
    return opened()


def test_the_bench_counts_along_the_chain(bench: Page) -> None:
    expect(bench.locator(".bench-sign strong")).to_have_text("Đang đuổi kịp")
    expect(bench.locator(".bench-table tbody tr").first.locator("td")).to_have_text(["812", "12", "800", "12", "0"])


def test_the_bench_says_when_the_counts_are_equal(bench: Page, script: Script) -> None:
    assert script.bench is not None
    script.bench["totals"] |= {"stored": 3248, "buffered": 0, "equal": True}
    expect(bench.locator(".bench-sign strong")).to_have_text("Số đếm bằng nhau")


def test_a_plug_is_pulled_and_put_back(bench: Page, script: Script) -> None:
    board = bench.locator("[data-plug='board:xuan-hoa']")
    board.get_by_role("button", name="Rút phích: Cống Xuân Hòa").click()
    expect(board).to_contain_text("ĐÃ RÚT")
    board.get_by_role("button", name="Cắm lại: Cống Xuân Hòa").click()
    expect(board).to_contain_text("đang cắm")
    assert script.plugs_pulled == [("board:xuan-hoa", True), ("board:xuan-hoa", False)]


def test_the_phone_shows_the_sms(bench: Page, script: Script) -> None:
    assert script.bench is not None
    expect(bench.locator(".bench-sms")).to_have_text(script.bench["inbox"][0]["text"])


def test_the_bench_follows_the_language_of_the_page(bench: Page) -> None:
    expect(bench.get_by_role("heading", name="Bàn thử")).to_be_visible()
    bench.get_by_role("button", name="English").click()
    expect(bench.get_by_role("heading", name="Test bench")).to_be_visible()
    expect(bench.locator(".bench-sign strong")).to_have_text("Catching up")
