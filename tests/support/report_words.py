"""Content of a report as a reader sees it: the words of the page and of Markdown, tables, links."""

from html.parser import HTMLParser

from curr_ab.study.report.page import render_markdown, render_page


class Words(HTMLParser):
    """The words of a page, its links, and its tables as rows of fields."""

    def __init__(self, page):
        super().__init__()
        self.words, self.addresses, self.tags, self.tables = [], [], [], []
        self._hidden, self._in_field = 0, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._hidden += tag in ("script", "style")
        self.addresses += [value for name, value in attributes if name in ("href", "src", "xlink:href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_field = True

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")
        self._in_field &= tag not in ("td", "th")

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)
            if self._in_field:
                self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def both(study):
    """The words of the page and of Markdown."""
    return Words(render_page(study)).text, render_markdown(study).replace("\\", "")
