"""Services outside the fleet: GitHub, ChatGPT, price lists and runners. Only background jobs call them."""
