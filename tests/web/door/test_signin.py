"""Signing in: who gets in, what a guesser meets, and what the cookie is worth."""

import asyncio
import logging
import re
import time
from urllib.parse import urlencode

import pytest

from hrn_opt.web.door import cookies as cookies_module
from hrn_opt.web.door.access import Access, Users, hash_password, hash_token, read_tokens, read_users
from hrn_opt.web.door.backoff import BackOff
from hrn_opt.web.door.cookies import Cookies, new_visitor
from hrn_opt.web.door.gate import Gate
from hrn_opt.web.door.owners import Owners
from hrn_opt.web.watch.logs import TextLines
from tests.web.asking import Browser

FORM = "application/x-www-form-urlencoded"
USERS = read_users(f"ada:{hash_password('correct horse')},bob:{hash_password('staple')}")


async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
    told = f"{scope['hrn_opt.visitor']} {scope['hrn_opt.user']}"
    await send({"type": "http.response.body", "body": told.encode()})


def gate(tmp_path, users=USERS, **options):
    return Gate(page, Access(users), Owners(tmp_path), **options)


def sign_in(browser, name="ada", password="correct horse", **headers):
    return browser.post("/signin", urlencode({"name": name, "password": password}).encode(), FORM, **headers)


@pytest.fixture
def app(tmp_path):
    return gate(tmp_path)


@pytest.fixture
def quick(monkeypatch):
    """Passwords are compared as they are; returns the list of those that were."""
    tried = []

    def allows(self, name, password):
        tried.append((name, password))
        return (name, password) == ("ada", "correct horse")

    monkeypatch.setattr(Users, "allows", allows)
    return tried


def test_a_user_signs_in_and_out(app):
    browser = Browser(app)
    assert browser.get("/").status == 303 and browser.get("/").header("location") == "/signin"
    assert browser.get("/signin").status == 200
    assert sign_in(browser, password="wrong").status == 401 and browser.get("/config").status == 401
    entered = sign_in(browser)
    assert (entered.status, entered.header("location")) == (303, "/")
    assert browser.get("/").text.endswith(" ada") and browser.get("/signin").status == 303
    stolen = dict(browser.cookies)
    assert browser.get("/signout").status == 405 and browser.get("/config").status == 200
    assert browser.post("/signout").status == 303 and browser.cookies == {}
    assert browser.get("/config").status == 401
    assert Browser(app, cookies=stolen).get("/config").status == 401  # nor does a copy hold


def test_the_cookie_says_no_more_than_it_must(app):
    browser = Browser(app)
    cookie = sign_in(browser).header("set-cookie")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; ")) and "Secure" not in cookie
    assert "horse" not in cookie and cookie.startswith("hrn_opt=")
    safe = sign_in(Browser(app, scheme="https")).header("set-cookie")
    assert safe.startswith("__Host-hrn_opt=") and {"Secure", "SameSite=Lax"} <= set(safe.split("; "))


def test_a_cookie_in_a_frame_of_another_site(tmp_path):
    app = gate(tmp_path, is_embedded=True)
    assert {"Secure", "SameSite=None", "Partitioned"} <= set(
        sign_in(Browser(app, scheme="https")).header("set-cookie").split("; ")
    )
    assert "SameSite=Lax" in sign_in(Browser(app)).header("set-cookie")


def test_below_a_sub_path_all_stays_below_it(app):
    browser = Browser(app, root_path="/faces", scheme="https")
    assert browser.get("/").header("location") == "/faces/signin"
    entered = sign_in(browser)
    assert entered.header("location") == "/faces/" and "Path=/faces;" in entered.header("set-cookie")
    assert browser.get("/config").status == 200


def test_signing_in_gives_a_new_visitor(app):
    """Who planted a cookie in a browser must not share what its user does then."""
    planted = Cookies("s" * 32).written({"headers": []}, new_visitor())[1].decode().partition(";")[0]
    app = Gate(page, Access(USERS), Owners("/nowhere"), secret="s" * 32)
    browser = Browser(app, cookies=dict([planted.split("=", 1)]))
    before = dict(browser.cookies)
    sign_in(browser)
    visitor = browser.get("/config").text.split()[0]
    assert browser.cookies != before
    opened = Cookies("s" * 32).read({"headers": [(b"cookie", planted.encode())]})
    assert opened.name != visitor


@pytest.mark.parametrize("query", ["?next=https://evil.example", "?next=//evil.example", "?_target=/x"])
def test_nobody_is_sent_elsewhere(app, query):
    body = urlencode({"name": "ada", "password": "correct horse", "next": "//evil.example"}).encode()
    for answer in (Browser(app).get(f"/{query}"), Browser(app).post(f"/signin{query}", body, FORM)):
        assert answer.status == 303 and answer.header("location") in ("/", "/signin")
    assert Browser(app).get("//evil.example/").status == 401


def test_forged_foreign_and_old_cookies_do_not_hold(app, tmp_path, monkeypatch):
    browser = Browser(app)
    sign_in(browser)
    value = browser.cookies["hrn_opt"]
    changed = "A" if value[-9] != "A" else "B"  # not the last one, of which two bits mean nothing
    for wrong in (value[:-9] + changed + value[-8:], "A" + value, "", "x.y.z", "é"):
        assert Browser(app, cookies={"hrn_opt": wrong}).get("/config").status == 401
    assert Browser(gate(tmp_path), cookies={"hrn_opt": value}).get("/config").status == 401  # of another start
    assert Browser(app, cookies={"hrn_opt": value}).get("/config").status == 200
    monkeypatch.setattr(cookies_module, "_KEPT_S", -1)
    assert Browser(app, cookies={"hrn_opt": value}).get("/config").status == 401


def test_a_fixed_secret_outlives_a_start_but_no_change_of_password(tmp_path):
    browser = Browser(gate(tmp_path, secret="s" * 32))
    sign_in(browser)
    assert Browser(gate(tmp_path, secret="s" * 32), cookies=browser.cookies).get("/config").status == 200
    for users in (read_users(f"ada:{hash_password('correct horse')}"), read_users(f"bob:{hash_password('staple')}")):
        assert Browser(gate(tmp_path, users, secret="s" * 32), cookies=browser.cookies).get("/config").status == 401


def test_the_page_speaks_both_languages_and_is_accessible(app):
    english, chinese = Browser(app).get("/signin"), Browser(app).get("/signin", accept_language="zh-CN,en;q=0.5")
    assert "Password" in english.text and '<html lang="en">' in english.text
    assert "密码" in chinese.text and '<html lang="zh">' in chinese.text
    for name in ("name", "password"):
        assert f'<label for="{name}">' in english.text and f'id="{name}"' in english.text
    assert 'name="viewport"' in english.text and english.header("cache-control") == "no-store"
    assert not re.search(r"https?://|<script", english.text)


def test_what_is_no_form_is_refused_before_any_hash(app, quick):
    assert Browser(app).post("/signin", b"{}", "application/json").status == 400
    assert Browser(app).post("/signin", b"name=ada", FORM).status == 400
    assert Browser(app).post("/signin", b"name=\xff&password=x", FORM).status == 400
    assert Browser(app).post("/signin", b"a=b&" * 20 + b"name=a&password=b", FORM).status == 400
    assert Browser(app).post("/signin", b"name=ada&password=" + b"x" * 5000, FORM).status == 413
    assert quick == []


def test_after_five_failures_an_address_must_wait(app, quick):
    guesser = Browser(app)
    assert [sign_in(guesser, f"user{n}", "x").status for n in range(5)] == [401] * 5
    refused = sign_in(guesser, "ada", "correct horse")  # right or not is no longer looked at
    assert refused.status == 429 and 0 < int(refused.header("retry-after")) <= 2 and len(quick) == 5
    assert sign_in(Browser(app, address="192.0.2.2")).status == 303


def test_after_five_failures_a_user_must_wait_but_not_where_they_are_known(app, quick):
    assert sign_in(Browser(app, address="198.51.100.7")).status == 303
    for n in range(5):
        assert sign_in(Browser(app, address=f"192.0.2.{n}"), "ada", "x").status == 401
    assert sign_in(Browser(app, address="192.0.2.9")).status == 429 and len(quick) == 6
    assert sign_in(Browser(app, address="198.51.100.7")).status == 303
    assert sign_in(Browser(app, address="192.0.2.9"), "bob", "x").status == 401


def test_an_own_account_buys_no_guesses_at_others(app, quick):
    guesser = Browser(app)
    for n in range(4):
        assert sign_in(guesser, f"user{n}", "x").status == 401
        assert sign_in(guesser).status == 303
    assert sign_in(guesser, "user5", "x").status == 401
    assert sign_in(guesser).status == 429


def test_a_household_of_ipv6_is_one_address(app, quick):
    for n in range(5):
        assert sign_in(Browser(app, address=f"2001:db8:1:2::{n + 1}"), f"user{n}", "x").status == 401
    assert sign_in(Browser(app, address="2001:db8:1:2:ffff::1")).status == 429
    assert sign_in(Browser(app, address="2001:db8:1:3::1")).status == 303


def test_tries_at_once_are_bounded_and_leave_the_loop_alone(app, monkeypatch):
    def slow(self, name, password):
        time.sleep(0.3)
        return False

    monkeypatch.setattr(Users, "allows", slow)

    async def crowd():
        body = urlencode({"name": "ada", "password": "x"}).encode()
        headers = {"content_type": FORM}
        tries = [
            asyncio.create_task(Browser(app, address=f"192.0.2.{n}").ask("POST", "/signin", body, headers))
            for n in range(5)
        ]
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        assert (await Browser(app).ask("GET", "/healthz")).status == 200
        took = time.monotonic() - begun
        return [answer.status for answer in await asyncio.gather(*tries)], took

    statuses, took_s = asyncio.run(crowd())
    assert sorted(statuses) == [401, 401, 503, 503, 503]
    assert took_s < 0.2  # the hashes take 0.3


def test_five_tries_at_once_are_five(app, monkeypatch):
    """Counted before the password is looked at: else a burst would be one failure."""
    from hrn_opt.web.door import signin

    monkeypatch.setattr(signin, "_AT_ONCE", 50)
    tried = []
    monkeypatch.setattr(Users, "allows", lambda self, *pair: bool(tried.append(pair)) or time.sleep(0.05) or False)

    async def burst():
        body = urlencode({"name": "ada", "password": "x"}).encode()
        tries = [Browser(app).ask("POST", "/signin", body, {"content_type": FORM}) for _ in range(20)]
        return [answer.status for answer in await asyncio.gather(*tries)]

    assert asyncio.run(burst()).count(429) == 15 and len(tried) == 5


def test_each_try_is_one_line_that_nobody_can_break(app, quick, caplog):
    caplog.set_level(logging.INFO)
    sign_in(Browser(app), "eve\n outcome=succeeded\x1b[2J" + "x" * 500, "secret guess")
    sign_in(Browser(app))
    records = [record for record in caplog.records if record.name == "hrn_opt.signin"]
    failed, succeeded = map(TextLines().format, records)
    assert "\n" not in failed and "\x1b" not in failed and "secret" not in failed and len(failed) < 200
    assert ' sign-in outcome=failed address=192.0.2.1 user="eve' in failed and records[0].levelname == "WARNING"
    assert succeeded.endswith(" sign-in outcome=succeeded address=192.0.2.1 user=ada")


def test_a_cookie_of_a_time_without_users_opens_nothing(tmp_path):
    """The same secret, before passwords were set."""
    browser = Browser(gate(tmp_path, Users(), secret="s" * 32))
    assert browser.get("/").status == 200 and browser.cookies
    closed = Browser(gate(tmp_path, secret="s" * 32), cookies=browser.cookies)
    assert closed.get("/config").status == 401 and closed.get("/").status == 303


def test_waits_double_and_end_and_are_forgotten():
    now = [0.0]
    backoff = BackOff(most_wait_s=100.0, most_keys=10, clock=lambda: now[0])
    waits = []
    for _ in range(12):
        backoff.count("a")
        waits.append(backoff.wait_s("a"))
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 100, 100]
    now[0] = 99.0
    assert backoff.wait_s("a") == 1.0
    now[0] = 101.0
    assert backoff.wait_s("a") == 0 and backoff.wait_s("b") == 0
    now[0] = 5000.0
    backoff.count("a")
    assert backoff.wait_s("a") == 0
    for n in range(1000):
        backoff.count(str(n))
    assert len(backoff) == 10


def test_where_only_programs_may_the_page_says_so(tmp_path):
    app = Gate(page, Access(tokens=read_tokens(f"ci:{hash_token('x')}")), Owners(tmp_path))
    shown = Browser(app).get("/signin")
    assert "token" in shown.text and "<form" not in shown.text
    assert sign_in(Browser(app)).status == 401


def test_an_open_page_has_no_signin(tmp_path):
    assert Browser(gate(tmp_path, Users())).get("/signin").header("location") == "/"
