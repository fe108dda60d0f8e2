"""Images with text: titles, contact sheets, panels and attention maps."""

from showtell.drawing.attention_maps import attention_map
from showtell.drawing.fonts import Fonts
from showtell.drawing.sheets import Panel, contact_sheet, panel_sheet
from showtell.drawing.titles import draw_title

__all__ = ["Fonts", "Panel", "attention_map", "contact_sheet", "draw_title", "panel_sheet"]
