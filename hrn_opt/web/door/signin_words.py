"""The sentences of the sign-in page, in English and Chinese."""

from __future__ import annotations

from hrn_opt.web.words import LANGUAGES

# key: English, Chinese
_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Sign in", "登录"),
    "name": ("Name", "用户名"),
    "password": ("Password", "密码"),
    "submit": ("Sign in", "登录"),
    "wrong": ("This name and password do not fit together; try again.", "用户名或密码不正确，请重试。"),
    "wait": ("Too many tries; wait {seconds} seconds.", "尝试次数过多，请等待 {seconds} 秒。"),
    "busy": ("Others are signing in; try again in a moment.", "其他人正在登录，请稍后再试。"),
    "nobody": (
        "This server is for programs with a token; it has no users who could sign in.",
        "此服务器只供持有令牌的程序使用，没有可登录的用户。",
    ),
}


def say_signin(language: str, key: str, **values: object) -> str:
    return _WORDS[key][LANGUAGES.index(language)].format(**values)
