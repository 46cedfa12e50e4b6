"""The real photographs of the demo: where each comes from and how it was cut.

Every photograph is CC0 or public domain by a statement inside the package that
carries it. `write_photos` looks that statement up before it writes an image and
stops when it is not there, so the table cannot claim what the package does not.
"""

import io
import re
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from qt_resources import read_rcc

SHORT_SIDE_PX = 256
JPEG_QUALITY = 90

SKIMAGE = "scikit-image 0.26.0 (PyPI)"
GCOMPRIS = "gcompris-qt-data 3.1-2 (Debian)"
LOMIRI = "lomiri-wallpapers-16.04 20.04.0-2 (Debian)"
ARCHIVES = {
    SKIMAGE: "scikit_image-0.26.0-*.whl",
    GCOMPRIS: "gcompris-qt-data_3.1-2_all.deb",
    LOMIRI: "lomiri-wallpapers-16.04_20.04.0-2_all.deb",
}


class Photo(NamedTuple):
    file: str
    title: str
    author: str
    licence: str
    package: str
    path: str
    # Words the package's own licence statement for this file must contain.
    proof: str
    crop: str = "whole"


def _skimage(file, title, author, licence, name, proof, crop="whole"):
    return Photo(file, title, author, licence, SKIMAGE, f"skimage/data/{name}", proof, crop)


def _gcompris(file, title, author, licence, activity, path, source):
    inner = f"{activity}.rcc!/gcompris/src/activities/{activity}/resource/{path}"
    return Photo(file, title, author, licence, GCOMPRIS, inner, source)


CC0 = "CC0-1.0"
PD = "public domain"
WORLD, FARM = "explore_world_animals", "explore_farm_animals"
MONUMENTS, ERASE, MUSIC = "explore_monuments", "erase", "explore_world_music"

PHOTOS = [
    _skimage("astronaut.jpg", "Eileen Collins, astronaut", "NASA", PD, "astronaut.png",
             "No known copyright restrictions, released into the public domain"),
    _skimage("cat.jpg", "Chelsea the cat", "Stefan van der Walt", CC0, "chelsea.png",
             "CC0 by the photographer (Stefan van der Walt)"),
    _skimage("coffee.jpg", "Coffee cup", "Rachel Michetti", CC0, "coffee.png",
             "CC0 by the photographer (Rachel Michetti)"),
    _skimage("rocket.jpg", "Falcon 9 carrying DSCOVR", "SpaceX", PD, "rocket.jpg",
             "released in the public domain"),
    _skimage("galaxies.jpg", "Hubble eXtreme Deep Field", "NASA", PD, "hubble_deep_field.jpg",
             "may be freely used in the public domain", "centre square"),
    _skimage("photographer.png", "Photographer at work, grey", "Lav Varshney", CC0, "camera.png",
             "CC0 by the photographer (Lav Varshney)"),
    Photo("dandelion.jpg", "Seeding", "Clemens Engelhardt", CC0, LOMIRI,
          "usr/share/backgrounds/seeding_by_Clements_Engelhardt.jpg",
          "16.04/seeding_by_Clements_Engelhardt.jpg"),
    _gcompris("bison.jpg", "American Bison 9", "Kurt Kaiser", CC0, WORLD, "animals/bison.webp",
              "File:American_Bison_9.jpg"),
    _gcompris("giraffes.jpg", "Giraffe courtship", "Mike and Lara Wolfe", CC0, WORLD,
              "animals/giraffe.webp", "File:Giraffe_courtship_(25657342808).jpg"),
    _gcompris("hedgehog.jpg", "Erinaceus roumanicus", "George Chernilevsky", PD, WORLD,
              "animals/hedgehog.webp", "File:Erinaceus_roumanicus_2020_G2.jpg"),
    _gcompris("jaguars.jpg", "Two Jaguar Sisters", "Frieda Bredesen", CC0, WORLD,
              "animals/jaguar.webp", "File:Two_Jaguar_Sisters.jpg"),
    _gcompris("koala.jpg", "Koala, Perth Zoo", "BurningWell", PD, WORLD, "animals/koala.webp",
              "File:Koala_Perth_Zoo.jpg"),
    _gcompris("lemurs.jpg", "Lemur", "Mathias Appel", CC0, WORLD, "animals/lemur.webp",
              "File:Lemur_(37122852696).jpg"),
    _gcompris("macaw.jpg", "Scarlet macaw at Cougar Mountain", "Dcoetzee", CC0, WORLD,
              "animals/scarlet_macaw.webp", "File:Scarlet_macaw_at_Cougar_Mountain"),
    _gcompris("monitor-lizard.jpg", "Varanus komodoensis", "TimVickers", PD, WORLD,
              "animals/dragon.webp", "File:Varanus_komodoensis_(5).jpg"),
    _gcompris("moose.jpg", "Male Moose", "Ryan Hagerty", PD, WORLD, "animals/moose.webp",
              "File:Male_Moose.jpg"),
    _gcompris("duck.jpg", "Aylesbury Duck", "Bernard Spragg", CC0, FARM, "animals/duck.webp",
              "File:Aylesbury_Duck._(9373723157).jpg"),
    _gcompris("horses.jpg", "Nokota Horse Stud Band", "Seth Zeigler", CC0, FARM,
              "animals/horse.webp", "File:Nokota_Horse_Stud_Band.jpg"),
    _gcompris("sheep.jpg", "Sheep", "Rob Mitchell", CC0, FARM, "animals/sheep.webp",
              "File:Sheep_(33625876592).jpg"),
    _gcompris("crab.jpg", "Sally Lightfoot Crab", "Nosferattus", CC0, ERASE, "crab.webp",
              "File:Sally_Lightfoot_Crab_2019.jpg"),
    _gcompris("kingfisher.jpg", "Eisvogel kingfisher", "Frank-2.0", CC0, ERASE,
              "kingfisher.webp", "File:Eisvogel_kingfisher.jpg"),
    _gcompris("red-panda.jpg", "Red Panda", "Mathias Appel", CC0, ERASE, "red_panda.webp",
              "File:Red_Panda_(30324056733).jpg"),
    _gcompris("pika.jpg", "Pika", "NPS Climate Change Response", PD, ERASE, "pika.webp",
              "npsclimatechange/23072904076"),
    _gcompris("amphitheatre.jpg", "Colosseum, Rome", "Urse Ovidiu", PD, MONUMENTS,
              "wonders/colosseum.webp", "File:Colosseum_Roma_2009.jpg"),
    _gcompris("aqueduct.jpg", "Pont du Gard", "Mimova", PD, MONUMENTS,
              "france/pontduGard.webp", "File:Pontdugard.jpg"),
    _gcompris("canyon.jpg", "Canyon de Chelly", "Nikater", PD, MONUMENTS,
              "usa/canyondeChelly.webp", "File:Canyon_de_chelly09.jpg"),
    _gcompris("castle.jpg", "Neuschwanstein Castle", "cameralends", CC0, MONUMENTS,
              "germany/neuschwansteinCastle.webp", "File:Neuschwanstein_Castle_(532850).jpg"),
    _gcompris("great-wall.jpg", "Great Wall of China", "Nicolas Perrault III", CC0, MONUMENTS,
              "wonders/greatWallofChina.webp", "File:Great_Wall_of_China_July_2006.JPG"),
    _gcompris("mountain-ruins.jpg", "Machu Picchu", "Guillaume Pascal", CC0, MONUMENTS,
              "wonders/machuPicchu.webp", "File:Yet_another_pic_of_machu_picchu.jpg"),
    _gcompris("tidal-island.jpg", "Mont Saint-Michel", "Ali Sabbagh", CC0, MONUMENTS,
              "france/montStMichel.webp", "File:Mont_Saint-Michel_IMG_5109"),
    _gcompris("minaret.jpg", "Qutub Minar", "pramadas", CC0, MONUMENTS,
              "india/qutubMinar.webp", "File:Qutubmin.jpg"),
    _gcompris("lute.jpg", "Dutār", "Metropolitan Museum of Art", CC0, MUSIC,
              "music/middleeast.webp", "MET_DP703859.jpg"),
]


class Packages:
    """Files inside the downloaded package archives of one folder."""

    def __init__(self, folder):
        self._folder = Path(folder)
        self._unpacked = {}
        self._resources = {}
        self._temporary = tempfile.TemporaryDirectory()

    def _archive(self, package):
        found = sorted(self._folder.glob(ARCHIVES[package]))
        if not found:
            raise SystemExit(f"{package}: no {ARCHIVES[package]} in {self._folder}")
        return found[0]

    def _deb(self, package):
        if package not in self._unpacked:
            target = Path(self._temporary.name) / package.split()[0]
            subprocess.run(["dpkg-deb", "-x", self._archive(package), target], check=True)
            self._unpacked[package] = target
        return self._unpacked[package]

    def _rcc(self, name):
        if name not in self._resources:
            path = self._deb(GCOMPRIS) / "usr/share/gcompris-qt/rcc" / name
            self._resources[name] = read_rcc(path.read_bytes())
        return self._resources[name]

    def image_and_statement(self, photo):
        """Bytes of the image and the package's licence statement for it."""
        if photo.package == SKIMAGE:
            with zipfile.ZipFile(self._archive(SKIMAGE)) as wheel:
                source = wheel.read("skimage/data/_fetchers.py").decode()
                # One function an image; its docstring carries the licence.
                functions = re.split(r"\n(?=def )", source)
                name = photo.path.removeprefix("skimage/")
                statement = [f for f in functions if f'_load("{name}")' in f]
                return wheel.read(photo.path), " ".join(" ".join(statement).split())
        if photo.package == LOMIRI:
            root = self._deb(LOMIRI)
            text = (root / "usr/share/doc/lomiri-wallpapers-16.04/copyright").read_text()
            return (root / photo.path).read_bytes(), _stanza(text, Path(photo.path).name)
        container, inner = photo.path.split("!/")
        files = self._rcc(container)
        folder = inner.rsplit("/", 1)[0]
        # Some activities keep one README above several folders of images.
        readme = files.get(folder + "/README") or files[folder.rsplit("/", 1)[0] + "/README"]
        return files[inner], _stanza(readme.decode(), inner.rsplit("/", 1)[1])


def _stanza(text, name):
    """The blank-line separated paragraph whose Files field names the image."""
    for paragraph in re.split(r"\n\s*\n", text):
        listed = re.search(r"(?m:^)Files: *((?:.|\n)*?)(?:\n[A-Z][a-z]+:|$)", paragraph)
        if listed and name in [Path(f).name for f in listed[1].split()]:
            return " ".join(paragraph.split())
    return ""


def _check_licence(photo, statement):
    licensed = re.search(r"cc0|public domain", statement, re.I)
    if photo.package != SKIMAGE:
        wanted = "CC0-1.0" if photo.licence == CC0 else "Public Domain"
        licensed = re.search(rf"License: {wanted}\b", statement, re.I)
    if not licensed or photo.proof not in statement:
        raise SystemExit(
            f"{photo.path}: {photo.package} does not state {photo.licence} with "
            f"{photo.proof!r}; it says: {statement or 'nothing'}"
        )


def write_photos(packages_folder, target):
    """Write every photograph, 256 px short side, into `target`."""
    packages = Packages(packages_folder)
    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for photo in PHOTOS:
        data, statement = packages.image_and_statement(photo)
        _check_licence(photo, statement)
        image = Image.open(io.BytesIO(data))
        if image.mode != "L":
            image = image.convert("RGB")
        width, height = image.size
        if photo.crop == "centre square":
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            image = image.crop((left, top, left + side, top + side))
            width = height = side
        scale = SHORT_SIDE_PX / min(width, height)
        image = image.resize((round(width * scale), round(height * scale)), Image.LANCZOS)
        path = target / photo.file
        if path.suffix == ".png":
            image.save(path, optimize=True)
        else:
            image.save(path, quality=JPEG_QUALITY, subsampling=0, optimize=True)
