c.ServerApp.token = ""
c.IdentityProvider.token = ""
c.ServerApp.password = ""
c.ServerApp.allow_unauthenticated_access = True
c.ServerApp.disable_check_xsrf = True
