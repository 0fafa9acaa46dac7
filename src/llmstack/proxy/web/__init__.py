"""Searches and pages of the web: what protocol/web decides is done here.

| module      | what it does                                                              |
| ----------- | ------------------------------------------------------------------------- |
| side_calls  | answers a side call: a search or a page, with signs of life meanwhile     |
| searching   | asks the back end that the user chose                                     |
| program     | a back end that is a command of the user's                                |
| pages       | fetches a page from the public internet, from nowhere else                |
| page_reader | a page's text, by a child process within limits of time and memory        |
| read_page   | that child                                                                |
"""
