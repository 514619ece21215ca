"""What several tests share: a CA, Postfix, a running gateway, an SMTP client, a recording backend."""
