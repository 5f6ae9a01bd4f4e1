"""The words of the synthetic project: its users, and what they do.

All of it is prepared as fragments of JSON text, which `project` joins into lines. This is several
times as fast as to encode a dictionary for each event.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

VARIANTS = 64
PROFILES = 256

_PLATFORMS: tuple[tuple[str, str, str, bool], ...] = (
    ("Windows", "Chrome", "web", False),
    ("Mac OS X", "Safari", "web", False),
    ("Linux", "Firefox", "web", False),
    ("Chrome OS", "Chrome", "web", False),
    ("Android", "Chrome Mobile", "android", True),
    ("iOS", "Mobile Safari", "swift", True),
)
_PLACES: tuple[tuple[str, str, str], ...] = (
    ("Berlin", "Land Berlin", "DE"),
    ("München", "Bayern", "DE"),
    ("São Paulo", "São Paulo", "BR"),
    ("東京", "東京都", "JP"),
    ("서울", "서울특별시", "KR"),
    ("New York", "New York", "US"),
    ("San Francisco", "California", "US"),
    ("London", "England", "GB"),
    ("Zürich", "Zürich", "CH"),
    ("Paris", "Île-de-France", "FR"),
    ("القاهرة", "القاهرة", "EG"),
    ("Bengaluru", "Karnataka", "IN"),
)
_SOURCES = ("google", "newsletter", "direct", "partner.example", "twitter", "c++ & friends")
_PAGES = ("/", "/pricing", "/docs/getting-started", "/blog/2024/été", "/product?id=7#top", "/检索")
_WORDS = ("shoes", 'red "vintage" lamp', "東京 ラーメン", "c:\\temp\\new", "50% off", "naïve")
_NOTES = (
    "Thanks! 🎉",
    "first line\nsecond line\r\nthird line",
    'she said "hi" and left',
    "path C:\\Users\\new\\table",
    "a line\u2028separator and a\u2029paragraph",
    "a next\u0085line control",
    "family 👨\u200d👩\u200d👧\u200d👦, flag 🇯🇵",
    "العربية and עברית",
    "tab\there, null-ish \\u0000, </script>",
)


@dataclass(frozen=True)
class Kind:
    """A kind of event: its name, how often it occurs, and what it says."""

    name: str
    weight: int
    variants: tuple[str, ...]
    priced: bool = False

    @property
    def json_name(self) -> str:
        """The name as JSON text, quotes included."""
        return json.dumps(self.name, ensure_ascii=False)


class Profile(NamedTuple):
    """The properties that all events of a user share: device, place, campaign."""

    text: str
    mobile: bool


@dataclass(frozen=True)
class Vocabulary:
    """The kinds of events and the profiles of a project."""

    kinds: tuple[Kind, ...]
    profiles: tuple[Profile, ...]

    @property
    def deck(self) -> tuple[Kind, ...]:
        """Each kind as often as its weight, to draw from."""
        return tuple(kind for kind in self.kinds for _ in range(kind.weight))


def fragment(properties: dict[str, Any], *, escaped: bool = False) -> str:
    """Give the inside of a JSON object: `{"a": 1}` becomes `"a":1`."""
    return json.dumps(properties, ensure_ascii=escaped, separators=(",", ":"))[1:-1]


@lru_cache(maxsize=8)
def vocabulary(seed: int) -> Vocabulary:
    """Give the vocabulary of the project with this seed."""
    rng = random.Random(f"{seed}:vocabulary")
    profiles = tuple(_profile(rng) for _ in range(PROFILES))
    return Vocabulary(kinds=_kinds(rng), profiles=profiles)


def event_names() -> tuple[str, ...]:
    """Give the names of events in each synthetic project, the most frequent first."""
    return tuple(name for name, *_ in _MEANINGS)


def _chance(rng: random.Random, probability: float) -> bool:
    return rng.random() < probability


def _profile(rng: random.Random) -> Profile:
    system, browser, library, mobile = rng.choice(_PLATFORMS)
    city, region, country = rng.choice(_PLACES)
    properties: dict[str, Any] = {
        "$os": system,
        "$browser": browser,
        "$browser_version": rng.randint(90, 140),
        "$city": city,
        "$region": region,
        "mp_country_code": country,
        "mp_lib": library,
        "$lib_version": f"{rng.randint(2, 4)}.{rng.randint(0, 60)}.{rng.randint(0, 9)}",
        "$screen_height": rng.choice((720, 900, 1080, 2532)),
        "$screen_width": rng.choice((390, 1280, 1440, 1920)),
        "utm_source": rng.choice(_SOURCES),
        "utm.campaign.first": rng.choice(("spring", "autumn 🍂", "brand")),
        "Plan": rng.choice(("free", "pro", "enterprise")),
        "plan": rng.choice(("Free", "Pro (annual)", None)),
        "Is Employee": _chance(rng, 0.05),
    }
    if mobile:
        properties |= {"$model": rng.choice(("Pixel 8", "iPhone15,2")), "$wifi": _chance(rng, 0.7)}
    return Profile(fragment(properties, escaped=_chance(rng, 0.2)), mobile)


def _kinds(rng: random.Random) -> tuple[Kind, ...]:
    return tuple(
        Kind(
            name=name,
            weight=weight,
            priced=priced,
            variants=tuple(
                fragment(meaning(rng), escaped=number % 8 == 0) for number in range(VARIANTS)
            ),
        )
        for name, weight, priced, meaning in _MEANINGS
    )


def _page_view(rng: random.Random) -> dict[str, Any]:
    page = rng.choice(_PAGES)
    properties = {
        "$current_url": f"https://shop.example{page}",
        "Page Title": f"Shop — {page}",
        "$referrer": f"https://{rng.choice(_SOURCES)}.example/?q={rng.randint(1, 9999)}",
        "Time On Page": round(rng.expovariate(1 / 40), 3),
        "viewport": {"width": rng.choice((390, 1280)), "ratio": rng.choice((1, 1.5, 2.0))},
        "scroll depth": rng.randint(0, 100),
    }
    if _chance(rng, 0.05):
        properties[""] = "a property without a name"
    return properties


def _search(rng: random.Random) -> dict[str, Any]:
    return {
        "query": rng.choice(_WORDS),
        "Results": rng.randint(0, 400),
        "filters": {"brand": rng.sample(("Ao", "Ünï", "Zed"), 2), "in.stock": _chance(rng, 0.5)},
        "sort": [{"by": "price", "descending": True}, {"by": "score", "descending": False}],
        "Latency (ms)": round(rng.uniform(3, 900), 2),
    }


def _cart(rng: random.Random) -> dict[str, Any]:
    return {
        "sku": f"SKU-{rng.randint(1, 500):05d}",
        "Quantity": rng.randint(1, 5),
        "currency": rng.choice(("EUR", "USD", "JPY")),
        "tags": rng.sample(("sale", "new", "日本製", "eco"), 2),
        "Stock left": rng.choice((None, 0, 3, 250)),
    }


def _purchase(rng: random.Random) -> dict[str, Any]:
    return _cart(rng) | {
        "items": [
            {
                "sku": f"SKU-{rng.randint(1, 500):05d}",
                "name": rng.choice(_WORDS),
                "unit price": rng.randint(199, 99999) / 100,
                "options": {"size": rng.choice("SML"), "gift": _chance(rng, 0.1)},
            }
            for _ in range(rng.randint(1, 4))
        ],
        "Coupon": rng.choice((None, "WELCOME10", "ÄÖÜ")),
        "First Purchase": _chance(rng, 0.3),
        "tax rate": 0.19,
    }


def _sign_up(rng: random.Random) -> dict[str, Any]:
    return {
        "method": rng.choice(("email", "google", "apple")),
        "Referral Code": rng.choice((None, f"R{rng.randint(1000, 9999)}")),
        "Accepted Terms": True,
        "experiments": {f"exp_{number}": rng.choice("AB") for number in range(6)},
        "$name": rng.choice(("Zoë Müller", "山田 太郎", "O'Brien", 'José "Pepe" Núñez')),
    }


def _video(rng: random.Random) -> dict[str, Any]:
    return {
        "Video ID": rng.getrandbits(60),
        "position": round(rng.uniform(0, 3600), 3),
        "quality": rng.choice(("480p", "1080p", "4K")),
        "buffering": [round(rng.uniform(0, 2), 4) for _ in range(6)],
        "Captions": {"on": _chance(rng, 0.5), "language": rng.choice(("de", "ja", "pt-BR"))},
    }


def _message(rng: random.Random) -> dict[str, Any]:
    return {
        "text": " ".join(rng.sample(_NOTES, rng.randint(1, 3))),
        "Channel": rng.choice(("chat", "e-mail")),
        "length": rng.randint(1, 2000),
        "部署": rng.choice(("営業", "開発")),
        "mentions": [f"user-{rng.randint(1, 9999):07d}" for _ in range(rng.randint(0, 4))],
    }


def _achievement(rng: random.Random) -> dict[str, Any]:
    return {
        "badge": rng.choice(("🥇", "🥈", "🏅 達人")),
        "Level": rng.randint(1, 99),
        "score": rng.randint(0, 10**9) / 1000,
        "history": [{"level": level, "at": f"2024-0{level}-15"} for level in range(1, 5)],
    }


# The name, the weight, whether it has a price, and what it says.
_MEANINGS = (
    ("Page View", 46, False, _page_view),
    ("Search", 15, False, _search),
    ("Add To Cart", 12, True, _cart),
    ("Video Play", 9, False, _video),
    ("Message Sent", 7, False, _message),
    ("Purchase", 5, True, _purchase),
    ("Sign Up", 4, False, _sign_up),
    ("達成 🎉", 2, False, _achievement),
)
