"""What a file is: by its name, and by its first octets. The kinds that policies speak of; tables, no parsing.

What matters is what a double click would do on the reader's machine, so names decide as much as content. Called by
`scan`, which takes the more dangerous of the two.
"""

#: The kinds, the most dangerous first.
RANK = (
    *("executable", "script", "macro", "encrypted", "unreadable"),
    *("archive", "document", "image", "text", "other"),
)
_ORDER = {kind: number for number, kind in enumerate(RANK)}

_NAMES = {
    # What Windows, macOS or Linux run or install.
    "executable": "exe com scr pif cpl dll sys drv ocx msi msp mst msix msixbundle appx appxbundle xll wll jar apk"
    " deb rpm dmg pkg app run elf so dylib gadget ax vxd wasm swf class",
    # What an interpreter runs, and what makes the system run something else.
    "script": "js jse mjs vbs vbe wsf wsh wsc ws sct ps1 ps1xml ps2 ps2xml psc1 psd1 psm1 bat cmd sh bash csh ksh zsh"
    " command py pyc pyw pyz pyzw pl rb php hta lnk url scf reg inf ins isp shb shs chm hlp jnlp msc job application"
    " appref-ms settingcontent-ms library-ms search-ms searchconnector-ms desktop scpt applescript workflow cdxml"
    " diagcab rdp iqy oqy rqy slk webloc website",
    "macro": "docm dotm xlsm xltm xlam xla xlm pptm potm ppam ppsm ppa sldm wbk mdb mde accdb accde accda ade adp",
    "encrypted": "p7m pgp gpg kdbx",
    # Images of disks open with a double click and carry no mark of the web.
    "archive": "zip zipx rar r00 7z gz gzip tgz bz bz2 tbz tbz2 xz txz lz lzma zst tar cab arj lzh lha ace z uu uue xxe"
    " iso img udf vhd vhdx wim daa cpio ar tnef winmail.dat alz egg pax xar b64 mim hqx sit sitx",
    "document": "doc dot docx dotx xls xlt xlsb xlsx xltx ppt pot pps pptx potx ppsx pdf rtf odt ott ods ots odp otp"
    " odg xps oxps pub one onepkg vsd vsdx mpp epub msg htm html xhtml shtml mht mhtml xml pages numbers key ps eps",
    "image": "png jpg jpeg jpe jfif gif bmp dib tif tiff webp svg ico heic heif avif",
    "text": "txt csv tsv log md ics vcf vcard json yaml yml asc sig eml patch diff",
}
_KIND_OF = {extension: kind for kind, words in _NAMES.items() for extension in words.split()}

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"PK\x03\x04", "application/zip", "archive"),
    (0, b"PK\x05\x06", "application/zip", "archive"),
    (0, b"PK\x07\x08", "application/zip", "archive"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage", "document"),
    (0, b"\x7fELF", "application/x-elf", "executable"),
    (0, b"\xfe\xed\xfa\xce", "application/x-mach-binary", "executable"),
    (0, b"\xfe\xed\xfa\xcf", "application/x-mach-binary", "executable"),
    (0, b"\xce\xfa\xed\xfe", "application/x-mach-binary", "executable"),
    (0, b"\xcf\xfa\xed\xfe", "application/x-mach-binary", "executable"),
    (0, b"\xca\xfe\xba\xbe", "application/java-vm", "executable"),
    (0, b"dex\n", "application/x-dex", "executable"),
    (0, b"\0asm", "application/wasm", "executable"),
    (0, b"!<arch>\ndebian", "application/vnd.debian.binary-package", "executable"),
    (0, b"\xed\xab\xee\xdb", "application/x-rpm", "executable"),
    (0, b"xar!", "application/x-xar", "executable"),
    (0, b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut", "script"),
    (0, b"ITSF\x03\0\0\0", "application/vnd.ms-htmlhelp", "script"),
    (0, b"#!", "text/x-script", "script"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar", "archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed", "archive"),
    (0, b"\x1f\x8b\x08", "application/gzip", "archive"),
    (4, b"1AY&SY", "application/x-bzip2", "archive"),
    (0, b"\xfd7zXZ\0", "application/x-xz", "archive"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd", "archive"),
    (0, b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed", "archive"),
    (0, b"ISc(", "application/x-cab", "archive"),
    (0, b"\x60\xea", "application/x-arj", "archive"),
    (2, b"-lh0-", "application/x-lzh", "archive"),
    (2, b"-lh5-", "application/x-lzh", "archive"),
    (2, b"-lh7-", "application/x-lzh", "archive"),
    (7, b"**ACE**", "application/x-ace", "archive"),
    (257, b"ustar", "application/x-tar", "archive"),
    (0x8001, b"CD001", "application/x-iso9660-image", "archive"),
    (0x8001, b"BEA01", "application/x-iso9660-image", "archive"),
    (0, b"conectix", "application/x-vhd", "archive"),
    (0, b"vhdxfile", "application/x-vhdx", "archive"),
    (0, b"MSWIM\0\0\0", "application/x-ms-wim", "archive"),
    (0, b"\x78\x9f\x3e\x22", "application/ms-tnef", "archive"),
    (0, b"{\\rt", "application/rtf", "document"),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "application/onenote", "document"),
    (4, b"Standard Jet DB", "application/msaccess", "macro"),
    (4, b"Standard ACE DB", "application/msaccess", "macro"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png", "image"),
    (0, b"GIF8", "image/gif", "image"),
    (0, b"\xff\xd8\xff", "image/jpeg", "image"),
    (0, b"II*\0", "image/tiff", "image"),
    (0, b"MM\0*", "image/tiff", "image"),
    (8, b"WEBP", "image/webp", "image"),
)
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script")


def worst(*kinds: str) -> str:
    """The most dangerous of them."""
    return min(kinds, key=_ORDER.__getitem__)


def dangerous(kind: str) -> bool:
    """True for what does harm by itself, or cannot be looked into."""
    return _ORDER[kind] <= _ORDER["unreadable"]


def by_name(name: str) -> str:
    """The kind that the last extension promises. Windows drops final dots and blanks, so `evil.exe. .` is a program."""
    plain = name.lower().rstrip(". \t")
    # An alternate stream (`a.txt:b.exe`), and a colon that hides one (`a.exe:x`).
    kinds = [_KIND_OF.get(piece.rpartition(".")[2].strip(), "other") for piece in plain.split(":") if "." in piece]
    if plain.rpartition("/")[2] == "winmail.dat":
        kinds.append("archive")
    return worst("other", *kinds)


def by_content(head: bytes) -> tuple[str, str]:
    """Media type and kind of the first octets; two empty texts where they say nothing."""
    if head.startswith(b"MZ") and (b"\0" in head[:64] or b"This program" in head[:512]):
        return "application/vnd.microsoft.portable-executable", "executable"  # two letters begin many a text
    for at, magic, media, kind in _MAGIC:
        if head.startswith(magic, at):
            return media, kind
    if b"%PDF-" in head[:1024]:  # readers look that far
        return "application/pdf", "document"
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_HTML):
        return "text/html", "document"
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in head[:4096].lower():
        return "image/svg+xml", "script" if b"<script" in head.lower() else "image"
    return "", ""
