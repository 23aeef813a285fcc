"""The script that Streamlit runs for every visitor and every change."""

from pathlib import Path

import streamlit as st
from PIL import Image

from cifar_pipeline.app import leaderboard, photographs, test_split

# Four pixels; emoji and symbols would be fetched from elsewhere.
ICON = Image.new("RGB", (2, 2), (42, 111, 201))
ICON.putpixel((1, 0), (249, 142, 9))

st.set_page_config(
    page_title="CIFAR-100", page_icon=ICON.resize((64, 64), Image.Resampling.NEAREST), layout="wide"
)
st.html(Path(__file__).with_name("style.css"))
pages = [
    st.Page(photographs.show, title="Photographs", url_path="photographs", default=True),
    st.Page(test_split.show, title="Test split", url_path="test"),
    st.Page(leaderboard.show, title="Leaderboard", url_path="leaderboard"),
]
chosen = st.navigation(pages, position="hidden")
# Streamlit's own navigation hides in a drawer on a phone.
with st.container(horizontal=True, key="navigation"):
    for page in pages:
        st.page_link(page)
chosen.run()
